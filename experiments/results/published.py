"""Published results to compare with.

Source: Min et al., IEEE TCSVT 2025, arXiv 2409.05540: RichIQA, and for each database the best of the methods compared
with it there. Means of 10 random splits, 80 % for training; PLCC and RMSE after the logistic fit, RMSE in units of the
database's scale.
"""

PUBLISHED_SPLITS = 10
# by the name of the database in the config, then by method
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "koniq10k": {
        "RichIQA": {"srcc": 0.9383, "plcc": 0.9500, "rmse": 0.1727},
        "TReS": {"srcc": 0.9100, "plcc": 0.9220, "rmse": 0.2006},
    },
    "bid": {
        "RichIQA": {"srcc": 0.8998, "plcc": 0.9085, "rmse": 0.5159},
        "HyperIQA": {"srcc": 0.8779, "plcc": 0.8826, "rmse": 0.6103},
    },
}
