"""Speed, memory and quality per minute, side by side with other implementations."""
