"""A brokerless task mesh: durable tasks, results and code shipping over ZeroMQ."""
