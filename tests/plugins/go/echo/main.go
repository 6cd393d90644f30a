//go:build wasip1

// The least that a Go plugin can be: an echo without the SDK, and without init.
package main

import "unsafe"

func main() {}

// What the host knows of, by its address.
var kept = map[uint32][]byte{}

//go:wasmexport alloc
func alloc(size uint32) uint32 { return keep(make([]byte, size, max(size, 1))) }

//go:wasmexport free
func free(address uint32) { delete(kept, address) }

//go:wasmexport echo
func echo(address, size uint32) uint64 {
	answer := append(append([]byte(`{"error":null,"data":`), kept[address][:size]...), '}')
	return uint64(keep(answer))<<32 | uint64(len(answer))
}

func keep(buffer []byte) uint32 {
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(buffer))))
	kept[address] = buffer
	return address
}
