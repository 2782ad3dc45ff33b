"""Networks with what makes a task of them: a series' scale, a text's vocabulary; ensembles."""
