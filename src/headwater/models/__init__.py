"""One block library, from which every model is made."""
