"""What people said: the store of judgements, imports, derived rankings, agreement between raters."""
