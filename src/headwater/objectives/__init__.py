"""What is learnt: each objective prepares rows and gives the loss as sums and counts."""
