"""Schemes of others that ours are compared with and that the library does not offer, on the library's interfaces."""
