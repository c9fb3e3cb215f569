"""A good rate and anneal, predicted from how a run begins: `lrpilot predict`."""

from lrpilot.learning.predicting.answer import Prediction
from lrpilot.learning.predicting.predict import predict_store

__all__ = ["Prediction", "predict_store"]
