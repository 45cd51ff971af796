"""What the monitor knows of boards and deployments."""
