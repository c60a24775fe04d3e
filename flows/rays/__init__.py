"""Flows over the machines of a Ray cluster: tasks run there, the flow itself here, and Prefect shows both.

Needs the extra `ray` (`pip install 'tamis[ray]'`), which only `tamis.flows.rays.task_runner` and
`tamis.flows.rays.reports` import, and whoever asks for `--runner ray` loads.
"""
