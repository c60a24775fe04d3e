"""The command line: parsing and printing, a file a group of commands."""
