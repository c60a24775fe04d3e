"""What is published under names, is found by them, and needs other things to be there."""
