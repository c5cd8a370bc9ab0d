"""Out and in: releases of a model that others load, and checkpoints of theirs to go on from."""
