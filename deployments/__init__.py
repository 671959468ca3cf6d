"""What a Prefect server is given (pools, deployments, automations), and the workers that take runs from it.

`apply` makes a server what `prefect.yaml` and `pools` say. `worker` runs a worker, `local_stack` a server with workers.
"""
