"""The command line. Each command is one thin module: it parses, calls and prints."""
