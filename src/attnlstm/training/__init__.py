"""Training: the LightningModule, its optimizers, its figures and the run that joins them."""
