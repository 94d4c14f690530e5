"""What watches a server: Prometheus rules and Grafana dashboards, generated from our own data."""
