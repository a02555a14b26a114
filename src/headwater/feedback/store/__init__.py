"""The feedback store: its tables, the database behind them, what is read out of it, checks, the diary, copies."""
