"""What FedLP computes: the draw of layers, layer-wise averaging, the server's step, and its variants."""
