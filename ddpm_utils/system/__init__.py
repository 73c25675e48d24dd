"""The machine: files written whole, one process at a time in a folder, where output goes, what libraries take."""
