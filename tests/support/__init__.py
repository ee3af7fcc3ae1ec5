"""What tests share: servers, databases as others have them, made files, fixtures of several suites."""
