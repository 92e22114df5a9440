"""What a browser alone can prove."""
