//go:build wasip1

package sdk

import (
	"fmt"
	"unsafe"
)

// maxBuffer bounds what the host may ask for at once, in bytes.
const maxBuffer = 1 << 30

// buffers are the pieces of memory that the host has the address of: parameters, results, and answers of host calls. Being here is what
// keeps the garbage collector from taking them while only the host knows of them; Go does not move what is on its heap. An instance has one
// thread, so no lock is needed.
var buffers = map[uint32][]byte{}

// alloc gives the host memory to write into. 0 means that there is none.
//
//go:wasmexport alloc
func alloc(size uint32) uint32 {
	if size > maxBuffer {
		return 0
	}
	return hold(make([]byte, size, max(size, 1)))
}

// free takes it back. An address that is not the host's is ignored.
//
//go:wasmexport free
func free(address uint32) { delete(buffers, address) }

// hold keeps a buffer, whose capacity is not 0, until it is freed or taken.
func hold(buffer []byte) uint32 {
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(buffer))))
	buffers[address] = buffer
	return address
}

// parameters are what the host wrote into a buffer of alloc's. They stay the host's to free.
func parameters(address, size uint32) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	buffer := buffers[address]
	if uint64(size) > uint64(len(buffer)) {
		return nil, fmt.Errorf("the host passed %d bytes at %#x, where alloc gave it %d", size, address, len(buffer))
	}
	return buffer[:size:size], nil
}

// packed hands a buffer to the host: its address above, its size below.
func packed(buffer []byte) uint64 {
	return uint64(hold(buffer))<<32 | uint64(uint32(len(buffer)))
}

// unpacked takes over a buffer that the host got from alloc, to give an answer in. 0 is no answer; the buffer is then nil.
func unpacked(value uint64) ([]byte, error) {
	if value == 0 {
		return nil, nil
	}
	address := uint32(value >> 32)
	buffer, err := parameters(address, uint32(value))
	free(address)
	if buffer == nil {
		buffer = []byte{}
	}
	return buffer, err
}
