"""Decodes a file of `analyzer export --to perfetto` with Perfetto's published messages, and prints
what is in it as JSON: slices, counters, arrows, lost records.

    decode_perfetto.py FILE
"""

import collections
import json
import sys

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

EVENT = protos.TrackEvent


def fail(why):
    sys.exit(f"decode_perfetto.py: {why}")


class Names:
    """Interned names of one sequence of packets."""

    def __init__(self):
        self.of = collections.defaultdict(dict)

    def learn(self, data):
        for field in ("event_names", "event_categories", "debug_annotation_names"):
            for name in getattr(data, field):
                if self.of[field].setdefault(name.iid, name.name) != name.name:
                    fail(f"{field} {name.iid} has two names")

    def get(self, field, iid):
        return self.of[field].get(iid) or fail(f"{field} {iid} has no name")


def value(annotation):
    which = annotation.WhichOneof("value")
    of = getattr(annotation, which)
    return hex(of) if which == "pointer_value" else of


def read(path):
    trace = protos.Trace()
    with open(path, "rb") as file:
        trace.ParseFromString(file.read())
    names, clocks, tracks, events = {}, {}, {}, []
    for packet in trace.packet:
        if unknown(packet):
            fail("a field that Perfetto does not have")
        of = packet.trusted_packet_sequence_id
        if packet.sequence_flags & protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
            names[of] = Names()
        if packet.HasField("interned_data"):
            names[of].learn(packet.interned_data)
        if packet.HasField("trace_packet_defaults"):
            clocks[of] = packet.trace_packet_defaults.timestamp_clock_id
        if packet.HasField("track_descriptor"):
            uuid = packet.track_descriptor.uuid
            if uuid in tracks:
                fail(f"track {uuid} is described twice")
            tracks[uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            if clocks[of] != protos.BUILTIN_CLOCK_MONOTONIC:
                fail("an event is not on CLOCK_MONOTONIC")
            events.append((packet.timestamp, packet.track_event, names[of]))
    # As the trace processor: by time, then in the order of the file.
    events.sort(key=lambda event: event[0])
    return trace, tracks, events


def unknown(message):
    from google.protobuf.unknown_fields import UnknownFieldSet

    if len(UnknownFieldSet(message)):
        return True
    for field, of in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            inner = of if hasattr(of, "__len__") and not hasattr(of, "ListFields") else [of]
            if any(unknown(one) for one in inner):
                return True
    return False


def main(path):
    trace, tracks, events = read(path)
    open_slices = collections.defaultdict(list)
    slices, instants, counters = [], [], collections.defaultdict(list)
    flows = collections.defaultdict(list)
    for at, event, names in events:
        track = event.track_uuid
        if track not in tracks:
            fail("an event on a track that is not described")
        category = [names.get("event_categories", iid) for iid in event.category_iids]
        name = event.name or (event.name_iid and names.get("event_names", event.name_iid))
        args = {names.get("debug_annotation_names", of.name_iid): value(of)
                for of in event.debug_annotations}
        one = {"at": at, "name": name, "category": category[0] if category else None,
               "args": args, "track": tracks[track].name, "depth": len(open_slices[track])}
        if event.type == EVENT.TYPE_SLICE_BEGIN:
            open_slices[track].append(one)
            slices.append(one)
        elif event.type == EVENT.TYPE_SLICE_END:
            if not open_slices[track]:
                fail("a slice ends that did not begin")
            ended = open_slices[track].pop()
            ended["ns"] = at - ended["at"]
            if open_slices[track]:
                inner = open_slices[track][-1].setdefault("inner_ns", 0)
                open_slices[track][-1]["inner_ns"] = inner + ended["ns"]
        elif event.type == EVENT.TYPE_INSTANT:
            instants.append(one)
        elif event.type == EVENT.TYPE_COUNTER:
            counters[tracks[track].name].append([at, event.counter_value])
        for flow in event.flow_ids:
            flows[flow].append(one)
    if any(open_slices.values()):
        fail("a slice that does not end")
    sums = collections.defaultdict(lambda: [0, 0])
    steps = collections.defaultdict(int)
    parents = {}
    for one in slices:
        parents[one["depth"], one["track"]] = one
        if one["category"] == "fault":
            sums[one["name"]][0] += 1
            sums[one["name"]][1] += one["ns"]
            if one.get("inner_ns", 0) > one["ns"]:
                fail("steps longer than their fault")
        if one["category"] == "step":
            fault = parents[0, one["track"]]
            steps[f"{fault['name']} {one['name']}"] += one["ns"]
    arrows = collections.Counter()
    for ends in flows.values():
        # One end is the removal, the other the fault that came of it.
        kinds = sorted(end["category"] for end in ends)
        if kinds != ["fault", "removal"]:
            fail(f"an arrow between {kinds}")
        removal, fault = sorted(ends, key=lambda end: end["category"] == "fault")
        if fault["args"]["removed_seq"] != removal["args"]["seq"]:
            fail("an arrow from another removal")
        arrows[fault["args"]["removed_by"]] += 1
    snapshots = [packet.clock_snapshot for packet in trace.packet
                 if packet.HasField("clock_snapshot")]
    print(json.dumps({
        "classes": {name: {"count": of[0], "total_ns": of[1]} for name, of in sums.items()},
        "steps": steps,
        "counters": {name: {"values": len(of), "last": of[-1][1],
                            "most": max(value for _, value in of)}
                     for name, of in counters.items()},
        "arrows": arrows,
        "removed_by": collections.Counter(one["args"]["removed_by"] for one in slices
                                          if "removed_by" in one["args"]),
        "lost": [[one["at"], one["ns"], one["args"]["records"]] for one in slices
                 if one["category"] == "lost"],
        "instants": collections.Counter(one["category"] for one in instants),
        "acts": sum(one["category"] == "act" for one in slices),
        "phases": [one["name"] for one in slices if one["category"] == "phase"],
        "tracks": sorted(track.name for track in tracks.values()),
        "primary_clock": [snapshot.primary_trace_clock for snapshot in snapshots],
        "first_fault": next((one for one in slices if one["category"] == "fault"), None),
    }, indent=1, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
