"""Everything that needs torch: splitting, costs, data, training, evaluation, export."""
