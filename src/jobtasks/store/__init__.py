"""The only truth: a database behind one small protocol; every statement has a name."""
