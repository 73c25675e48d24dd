"""What only maintainers run: records, benchmarks, reliability and the committed notebooks (`python -m maintenance`)."""
