"""Files and folders: read no further than they may reach, written whole or not at all."""
