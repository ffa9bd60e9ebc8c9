"""DICOM: series found and checked by their headers, their voxels read, segmentations written."""
