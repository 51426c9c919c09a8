"""The images that a report speaks of, source images and maps, as its image library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from highdicom import sr
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes as standard
from pydicom.uid import CTImageStorage

from dicom_services.dicom import codes, uids
from dicom_services.dicom.evidence import distinct, frame_of_reference
from dicom_services.dicom.identity import put
from dicom_services.dicom.parametric_map import SOP_CLASS, StoredMap, map_key
from dicom_services.dicom.provenance import Provenance
from dicom_services.dicom.source import SourceInstance, SourceSeries

_CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS
_ACQUISITION: Final = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT


def image_library(
    source: SourceSeries, maps: Sequence[StoredMap], provenance: Provenance
) -> sr.ContainerContentItem:
    """Every source image, with what they share said once for all of them (TID 1600, 1602).

    Maps are a second group of their own: their quantity, and the key and UID they are tracked by.
    A multi-frame image is one entry, of all its frames.
    """
    library = sr.ContainerContentItem(name=standard.DCM.ImageLibrary, relationship_type=_CONTAINS)
    group = sr.ContainerContentItem(
        name=standard.DCM.ImageLibraryGroup, relationship_type=_CONTAINS
    )
    every = distinct((*source.instances, *source.later))
    content: list[Dataset] = [*_shared_descriptors(source), *_entries(every)]
    # Past highdicom, which would look at each of thousands again.
    group.add(DataElement("ContentSequence", "SQ", content))
    groups = [group, _maps(source, maps, provenance)] if maps else [group]
    library.ContentSequence = sr.ContentSequence(groups)
    return library


def _entries(images: Sequence[SourceInstance]) -> list[Dataset]:
    """An IMAGE item for each: one of highdicom's, and copies of it with other names."""
    first = sr.ImageContentItem(
        name=codes.concept(codes.SOURCE),
        referenced_sop_class_uid=CTImageStorage,
        referenced_sop_instance_uid="1.2.3",
        relationship_type=_CONTAINS,
    )
    found = []
    for image in images:
        reference, entry = Dataset(), Dataset()
        put(reference, "ReferencedSOPClassUID", image.sop_class_uid)
        put(reference, "ReferencedSOPInstanceUID", image.sop_instance_uid)
        entry.update(first)
        # An element of its own: the others are the first item's.
        entry.add(DataElement("ReferencedSOPSequence", "SQ", [reference]))
        found.append(entry)
    return found


def _maps(
    source: SourceSeries, maps: Sequence[StoredMap], provenance: Provenance
) -> sr.ContainerContentItem:
    group = sr.ContainerContentItem(
        name=standard.DCM.ImageLibraryGroup, relationship_type=_CONTAINS
    )
    group.ContentSequence = sr.ContentSequence()
    for each in maps:
        key = map_key(each.values)
        image = sr.ImageContentItem(
            name=codes.concept(codes.PARAMETRIC_MAP),
            referenced_sop_class_uid=SOP_CLASS,
            referenced_sop_instance_uid=provenance.uid(each.role),
            relationship_type=_CONTAINS,
        )
        described = sr.CodeContentItem(
            name=codes.concept(codes.QUANTITY),
            value=codes.concept(each.values.what),
            relationship_type=_ACQUISITION,
        )
        uid = uids.tracking_uid(source.header, provenance.pipeline, key)
        tracked = sr.TrackingIdentifier(uid=uid, identifier=key)
        for item in tracked:
            item.RelationshipType = _ACQUISITION.value
        image.ContentSequence = sr.ContentSequence([described, *tracked])
        group.ContentSequence.append(image)
    return group


def _shared_descriptors(source: SourceSeries) -> list[sr.ContentItem]:
    header = source.header
    found: list[sr.ContentItem] = []
    modality = codes.MODALITIES.get(str(header.get("Modality", "")))
    if modality is not None:
        found.append(
            sr.CodeContentItem(
                name=standard.DCM.Modality,
                value=codes.concept(modality),
                relationship_type=_ACQUISITION,
            )
        )
    found.append(
        sr.UIDRefContentItem(
            name=standard.DCM.FrameOfReferenceUID,
            value=frame_of_reference(source, None),
            relationship_type=_ACQUISITION,
        )
    )
    for name, keyword in (("PixelDataRows", "Rows"), ("PixelDataColumns", "Columns")):
        if header.get(keyword):
            found.append(
                sr.NumContentItem(
                    name=getattr(standard.DCM, name),
                    value=int(header.get(keyword)),
                    unit=codes.concept(codes.PIXELS),
                    relationship_type=_ACQUISITION,
                )
            )
    return found
