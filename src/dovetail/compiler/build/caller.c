/* Calls a compiled program: tensors in, outputs allocated, one array of pointers, one call.
 *
 * It needs no headers of torch: addresses come from data_ptr(), memory from torch.empty_strided. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "results.h"
#include "state.h"

typedef int (*Run)(void *handle, void **pointers, char *error, size_t size);

/* Where a pointer of the program comes from. */
enum { INPUT, OUTPUT, ADDRESS, ARENA, SIZE, ASKED };

typedef struct {
  int kind;
  int64_t value; /* the input, the output, the address or the offset */
  int64_t dim;   /* of a size: the dimension of the input; -1: the input is the number itself;
                    of an input: how many bytes after its first */
} Slot;

typedef struct {
  PyObject_HEAD
  Run run;
  void *handle;
  Py_ssize_t slots, outputs, arena, free_count;
  Slot *slot;
  PyObject *make;    /* one (callable, arguments, keywords) or (callable, sizes) per output */
  Result *result;    /* of outputs made the first way: their memory, kept for the next call */
  PyObject *count;   /* counts uses of a storage; None: memory is not kept */
  PyObject *keep;    /* what addresses point into */
  PyObject *place;   /* how the arena of a GPU is made, as an output is; else None */
  PyObject *ask;     /* returns the address of a stream; else None */
  void **free_arena; /* arenas that no call is using */
} Kernel;

enum { MOST_FREE = 16 };
static PyObject *shape_name;

static void *take_arena(Kernel *self) {
  void *made = NULL;
  if (self->arena == 0) return NULL;
  if (self->free_count) return self->free_arena[--self->free_count];
  if (posix_memalign(&made, 4096, (size_t)self->arena)) {
    PyErr_NoMemory();
    return NULL;
  }
  return made;
}

static void give_arena(Kernel *self, void *arena) {
  if (!arena) return;
  if (self->free_count < MOST_FREE)
    self->free_arena[self->free_count++] = arena;
  else
    free(arena);
}

static void *asked(PyObject *function) {
  PyObject *number = PyObject_CallNoArgs(function);
  if (!number) return NULL;
  void *address = PyLong_AsVoidPtr(number);
  Py_DECREF(number);
  return address;
}

static int64_t size_of(PyObject *input, int64_t dim) {
  if (dim < 0) return PyLong_AsLongLong(input);
  PyObject *shape = PyObject_GetAttr(input, shape_name);
  if (!shape) return -1;
  PyObject *extent = PySequence_GetItem(shape, (Py_ssize_t)dim);
  Py_DECREF(shape);
  if (!extent) return -1;
  const int64_t value = PyLong_AsLongLong(extent);
  Py_DECREF(extent);
  return value;
}

static PyObject *make_output(PyObject *how, PyObject *inputs) {
  PyObject *function = PyTuple_GET_ITEM(how, 0);
  if (PyTuple_GET_SIZE(how) == 3)
    return PyObject_Call(function, PyTuple_GET_ITEM(how, 1), PyTuple_GET_ITEM(how, 2));
  return PyObject_CallOneArg(function, inputs); /* its size depends on those of the inputs */
}

static int fill(Kernel *self, PyObject **inputs, Py_ssize_t count, PyObject *outputs, char *arena,
                void **pointers) {
  for (Py_ssize_t i = 0; i < self->slots; ++i) {
    const Slot *slot = &self->slot[i];
    void *address = NULL;
    switch (slot->kind) {
      case INPUT:
      case SIZE:
        if (slot->value >= count) {
          PyErr_SetString(PyExc_TypeError, "the compiled program was given too few inputs");
          return -1;
        }
        address = slot->kind == INPUT
                      ? address_of(inputs[slot->value])
                      : (void *)(intptr_t)size_of(inputs[slot->value], slot->dim);
        if (slot->kind == INPUT && slot->dim) address = (char *)address + slot->dim;
        break;
      case OUTPUT:
        address = address_of(PyList_GET_ITEM(outputs, (Py_ssize_t)slot->value));
        break;
      case ADDRESS:
        address = (void *)(intptr_t)slot->value;
        break;
      case ASKED:
        address = asked(self->ask);
        break;
      default:
        address = arena + slot->value;
    }
    if (PyErr_Occurred()) return -1;
    pointers[i] = address;
  }
  return 0;
}

static PyObject *kernel_call(PyObject *object, PyObject *args, PyObject *keywords) {
  Kernel *self = (Kernel *)object;
  PyObject *given;
  (void)keywords;
  if (!PyArg_ParseTuple(args, "O", &given)) return NULL;
  PyObject *inputs = PySequence_Fast(given, "inputs are a list");
  if (!inputs) return NULL;
  PyObject *outputs = PyList_New(self->outputs);
  char error[512] = "";
  int failed = -1;
  void *arena = NULL;
  PyObject *placed = NULL; /* on a GPU, a tensor: torch gives its memory to what comes after */
  void *few[128], **pointers = self->slots > 128 ? malloc(sizeof(void *) * (size_t)self->slots) : few;
  if (!outputs || !pointers) goto done;
  for (Py_ssize_t i = 0; i < self->outputs; ++i) {
    PyObject *how = PyTuple_GET_ITEM(self->make, i);
    const int keeps = self->count != Py_None && PyTuple_GET_SIZE(how) == 3;
    PyObject *made = keeps ? take_result(self->count, &self->result[i], how)
                           : make_output(how, inputs);
    if (!made) goto done;
    PyList_SET_ITEM(outputs, i, made);
  }
  if (self->arena && self->place != Py_None) {
    placed = make_output(self->place, inputs);
    if (!placed) goto done;
    arena = address_of(placed);
  } else {
    arena = take_arena(self);
  }
  if (self->arena && !arena) goto done;
  if (fill(self, PySequence_Fast_ITEMS(inputs), PySequence_Fast_GET_SIZE(inputs), outputs, arena,
           pointers))
    goto done;
  Py_BEGIN_ALLOW_THREADS failed = self->run(self->handle, pointers, error, sizeof error);
  Py_END_ALLOW_THREADS if (failed) PyErr_SetString(PyExc_RuntimeError, error);
done:
  if (placed)
    Py_DECREF(placed);
  else
    give_arena(self, arena);
  if (pointers != few) free(pointers);
  Py_DECREF(inputs);
  if (failed) Py_CLEAR(outputs);
  return outputs;
}

static int kernel_init(PyObject *object, PyObject *args, PyObject *keywords) {
  Kernel *self = (Kernel *)object;
  PyObject *run, *handle, *slots;
  (void)keywords;
  if (!PyArg_ParseTuple(args, "OOO!O!nOOOO", &run, &handle, &PyTuple_Type, &slots, &PyTuple_Type,
                        &self->make, &self->arena, &self->keep, &self->place, &self->ask,
                        &self->count))
    return -1;
  Py_INCREF(self->make);
  Py_INCREF(self->keep);
  Py_INCREF(self->place);
  Py_INCREF(self->ask);
  Py_INCREF(self->count);
  self->run = (Run)PyLong_AsVoidPtr(run);
  self->handle = PyLong_AsVoidPtr(handle);
  self->slots = PyTuple_GET_SIZE(slots);
  self->outputs = PyTuple_GET_SIZE(self->make);
  self->slot = calloc((size_t)self->slots + 1, sizeof(Slot));
  self->free_arena = calloc(MOST_FREE, sizeof(void *));
  self->result = calloc((size_t)self->outputs + 1, sizeof(Result));
  if (!self->slot || !self->free_arena || !self->result) {
    PyErr_NoMemory();
    return -1;
  }
  for (Py_ssize_t i = 0; i < self->slots; ++i) {
    long long value = 0, dim = 0;
    if (!PyArg_ParseTuple(PyTuple_GET_ITEM(slots, i), "iLL", &self->slot[i].kind, &value, &dim))
      return -1;
    self->slot[i].value = value;
    self->slot[i].dim = dim;
  }
  return PyErr_Occurred() ? -1 : 0;
}

/* Give back the memory of results; what a caller holds stays theirs. */
static PyObject *kernel_release(PyObject *object, PyObject *none) {
  Kernel *self = (Kernel *)object;
  (void)none;
  for (Py_ssize_t i = 0; self->result && i < self->outputs; ++i) forget_result(&self->result[i]);
  Py_RETURN_NONE;
}

static void kernel_dealloc(PyObject *object) {
  Kernel *self = (Kernel *)object;
  PyTypeObject *type = Py_TYPE(object);
  Py_XDECREF(kernel_release(object, NULL));
  while (self->free_count) free(self->free_arena[--self->free_count]);
  free(self->free_arena);
  free(self->slot);
  free(self->result);
  Py_XDECREF(self->make);
  Py_XDECREF(self->keep);
  Py_XDECREF(self->place);
  Py_XDECREF(self->ask);
  Py_XDECREF(self->count);
  type->tp_free(object);
  Py_DECREF(type);
}

static PyMethodDef kernel_methods[] = {
    {"release", kernel_release, METH_NOARGS, "Give back the memory of results."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot kernel_slots[] = {{Py_tp_init, kernel_init},
                                     {Py_tp_methods, kernel_methods},
                                     {Py_tp_dealloc, kernel_dealloc},
                                     {Py_tp_call, kernel_call},
                                     {Py_tp_new, PyType_GenericNew},
                                     {Py_tp_doc, "A compiled program: a list of inputs to a list of "
                                                 "outputs."},
                                     {0, NULL}};
static PyType_Spec kernel_spec = {"dovetail_caller.Kernel", sizeof(Kernel), 0, Py_TPFLAGS_DEFAULT,
                                  kernel_slots};

static uint64_t mixed(uint64_t all, uint64_t word) {
  const uint64_t product = (all ^ word) * 0x9e3779b97f4a7c15u;
  return product ^ (product >> 32);
}

/* A digest of 64 words, spread evenly, of each piece of memory: address and bytes, as int64. */
static PyObject *sample(PyObject *self, PyObject *places) {
  (void)self;
  if (!PyBytes_Check(places)) return PyErr_Format(PyExc_TypeError, "places are bytes");
  const int64_t *at = (const int64_t *)PyBytes_AS_STRING(places);
  const size_t pieces = (size_t)PyBytes_GET_SIZE(places) / (2 * sizeof(int64_t));
  uint64_t all = pieces;
  for (size_t i = 0; i < pieces; ++i) {
    const char *from = (const char *)(intptr_t)at[2 * i];
    const size_t bytes = (size_t)at[2 * i + 1], words = bytes / 8, step = (words / 64) | 1;
    uint64_t word = 0;
    for (size_t w = 0; w < words; w += step) {
      memcpy(&word, from + 8 * w, 8);
      all = mixed(all, word);
    }
    word = bytes;
    if (bytes % 8) memcpy(&word, from + 8 * words, bytes % 8);
    all = mixed(all, word);
  }
  return PyLong_FromUnsignedLongLong(all);
}

static PyMethodDef functions[] = {
    {"sample", sample, METH_O, "A digest of some words of each piece of memory."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "dovetail_caller", NULL, -1,
                                        functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_dovetail_caller(void) {
  shape_name = PyUnicode_InternFromString("shape");
  PyObject *module = result_names() ? NULL : PyModule_Create(&definition);
  PyObject *kernel = module ? PyType_FromSpec(&kernel_spec) : NULL;
  PyObject *state = kernel ? state_type() : NULL;
  if (!state || PyModule_AddObjectRef(module, "Kernel", kernel) ||
      PyModule_AddObjectRef(module, "State", state))
    Py_CLEAR(module);
  Py_XDECREF(kernel);
  Py_XDECREF(state);
  return module;
}
