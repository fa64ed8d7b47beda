"""Files of tables behind one interface: CSV with ARFF, JSON and Parquet."""
