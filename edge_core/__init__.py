"""Code that boards, host and monitor share."""
