"""Pictures, in folders of classes or in data sets, read alike by all parts of the product."""
