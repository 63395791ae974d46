"""Files and folders: read up to a largest size, written completely or not at all."""
