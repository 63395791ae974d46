"""The command line: one short module for each subcommand."""
