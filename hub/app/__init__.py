"""The application: command line, configuration, the two ports, metrics and logs."""
