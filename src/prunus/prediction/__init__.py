"""What pruning would buy: the time of a model under any recipe, predicted from its layers."""
