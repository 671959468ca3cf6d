"""Deployments: job examples and what is applied to a Prefect server. `prefect.yaml` lists them."""
