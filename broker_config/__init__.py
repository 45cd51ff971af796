"""What host, agent and monitor share: topics, messages, manifest, tensors, connection, broker."""
