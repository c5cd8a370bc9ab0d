"""Models out and in: releases that other libraries load, and other people's checkpoints to continue from."""
