"""From images to a model: reading, splitting, features, fitting, checking, calibrating, assembling."""
