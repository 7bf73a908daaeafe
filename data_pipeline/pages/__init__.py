"""What one web page is: bytes to text, the element tree as blocks, which of them are main text, what its head says."""
