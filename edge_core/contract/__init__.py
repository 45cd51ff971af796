"""The contract between programs: topics, messages, the manifest, tensors."""
