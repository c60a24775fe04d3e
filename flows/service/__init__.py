"""The service: deployments of a file, on schedules of a Prefect server, watched and measured."""
