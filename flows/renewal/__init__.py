"""The flow `renew`: what is new in a growing dataset is indexed and scored, and its selections are made again."""
