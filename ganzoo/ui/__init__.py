"""The workshop: generators and training runs in a browser (the extra `ui`)."""
