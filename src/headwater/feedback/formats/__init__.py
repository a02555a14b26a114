"""Files of judgements, ours and other programs': what is read into the store's terms, and written out."""
