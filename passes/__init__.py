"""The methods: a folder per family, a file per method."""
