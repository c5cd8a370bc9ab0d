"""What every stage rests on: settings, manifests, files, figures, progress; and the pipeline that runs the stages."""
