"""What boards, host and monitor share."""
