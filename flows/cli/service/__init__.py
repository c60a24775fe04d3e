"""Commands of the service: serve, schedule, doctor."""
