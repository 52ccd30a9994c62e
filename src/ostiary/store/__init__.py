"""What is kept: the ports (small Protocols) and the SQL that implements them."""
