"""What travels: topics, messages, the manifest, tensors."""
